"""Tenants files: formats, and the report of all problems at once."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from wxtcb.api.cloudrun import EsInfo, Server, VpcInfo
from wxtcb.errors import InvalidArgument
from wxtcb.provision import (
    Outcome,
    Report,
    Service,
    Tenant,
    TenantReport,
    TenantsFileError,
    derive_alias,
    read_adoptions,
    read_tenants,
    render_csv,
)
from wxtcb.validation import check_alias

APPID_RULE = "appids[0] must be 'wx' and 16 lower-case letters or digits"
NAME_RULE = (
    "name must have at most 60 of a-z, A-Z, 0-9, '-' and '_', start with a letter, and end with a letter or digit"
)
CASE = "aliases are compared without case"
COLUMNS = "tenant, alias, appids, services, env"
WX1, WX2 = "wx0000000000000001", "wx0000000000000002"
APPIDS = st.lists(st.from_regex("wx[0-9a-z]{16}", fullmatch=True), unique=True, max_size=3)
SERVICES = st.lists(st.from_regex("[a-zA-Z]([a-zA-Z0-9_-]{0,9}[a-zA-Z0-9])?", fullmatch=True), unique=True, max_size=3)
TENANTS = st.lists(
    st.builds(
        Tenant,
        st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).map(str.strip).filter(bool),
        alias=st.none(),
        appids=APPIDS,
        services=SERVICES,
    ),
    min_size=1,
    unique_by=lambda tenant: tenant.name,
)


def invalid_alias(alias: str) -> str:
    """Return the message of an alias that the platform would reject."""
    with pytest.raises(InvalidArgument) as caught:
        check_alias("alias", alias)
    return str(caught.value)


def problems_of(path: Path, data: str | bytes, **options: str) -> tuple[str, ...]:
    """Write *data* to *path* and return the problems of the file."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(TenantsFileError) as caught:
        read_tenants(path, **options)
    error = caught.value
    assert isinstance(error, InvalidArgument)
    assert error.path == path
    assert all(problem in str(error) for problem in error.problems)
    return error.problems


@pytest.mark.unmeasured
@given(TENANTS, st.sampled_from(["", "\ufeff"]), st.sampled_from(["\n", "\r\n"]), st.sampled_from(";\uff1b,\uff0c、\n"))
def test_csv_round_trip(
    tmp_path_factory: pytest.TempPathFactory, tenants: list[Tenant], bom: str, end: str, separator: str
) -> None:
    """Valid tenants are read back, with and without a byte order mark, with either line end and any separator."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(["tenant", "alias", "appids", "services"])
    for tenant in tenants:
        writer.writerow(
            [tenant.name, tenant.alias, separator.join(tenant.appids), separator.join(tenant.service_names)]
        )
    path = tmp_path_factory.mktemp("csv") / "tenants.csv"
    path.write_bytes((bom + text.getvalue()).encode())
    assert read_tenants(path) == tuple(tenants)


def test_csv_tolerates_blanks_and_short_rows(tmp_path: Path) -> None:
    """Blanks, blank lines, empty cells, short rows and capitals in the header are accepted."""
    path = tmp_path / "t.CSV"
    path.write_text(f' Tenant ,alias, appids,services\n 商户 , a1 , {WX1} ; {WX2};, api; web \n\n , ,\n"b",,,,,\nc\n')
    services = (Service.from_name("api"), Service.from_name("web"))
    first = Tenant("商户", alias="a1", appids=[WX1, WX2], services=services)
    assert read_tenants(path) == (first, Tenant("b"), Tenant("c"))


def test_toml_service_may_have_all_fields(tmp_path: Path) -> None:
    """A service is a name or a table of fields of Server; it is not public by default."""
    path = tmp_path / "t.toml"
    path.write_text(
        f'[[tenant]]\ntenant = " a "\nalias = "x"\nappids = ["{WX1}"]\nsource_type = 1\n'
        'services = ["api", {service_name = "web", remark = "备注", vpc_info = {subnet_ids = ["s"], create_type = 1}, '
        'es_info = {id = 1, port = 9200, password = "pw"}}]\n'
    )
    web = Server(
        service_name="web",
        is_public=False,
        remark="备注",
        vpc_info=VpcInfo(subnet_ids=["s"], create_type=1),
        es_info=EsInfo(id=1, port=9200, password="pw"),
    )
    services = (Service.from_name("api"), Service(web))
    assert read_tenants(path) == (Tenant("a", alias="x", appids=[WX1], services=services, source_type=1),)


@pytest.mark.parametrize("ending", ["jsonl", "ndjson"])
def test_json_lines_has_one_tenant_a_line(tmp_path: Path, ending: str) -> None:
    """Blank lines are skipped, and null means that a field is not given."""
    path = tmp_path / f"t.{ending}"
    path.write_text(
        '\ufeff{"tenant": "a", "alias": null, "appids": null}\r\n\n{"tenant": "b", "services": [{"service_name": "s"}]}'
    )
    assert read_tenants(str(path)) == (Tenant("a"), Tenant("b", services=[Service.from_name("s")]))


def test_csv_reports_every_problem_with_its_line(tmp_path: Path) -> None:
    """A quoted line break does not shift line numbers, and a row may have several problems."""
    text = f'tenant,alias,appids\n,x\n"two\nlines"\na,1,{WX1};{WX1}\na,ok,,more\na,b\nA,B\na\n'
    problems = problems_of(tmp_path / "t.csv", text)
    assert problems[0].startswith("line 2: the tenant must be")
    assert problems[1:] == (
        "line 3: the tenant must not contain control characters such as NUL or line breaks: 'two\\nlines'",
        f"line 5: {invalid_alias('1')}",
        f"line 5: appids contains '{WX1}' more than once",
        "line 6: 1 more values than columns; quote a value that contains a comma",
        "line 7: tenant 'a' is duplicated (first at line 5)",
        f"line 8: {invalid_alias('B')}",
        f"line 8: alias 'B' of tenant 'A' is already used by tenant 'a' (line 7); {CASE}",
        "line 9: tenant 'a' is duplicated (first at line 5)",
    )


def test_duplicates_are_reported_for_invalid_rows_too(tmp_path: Path) -> None:
    """Fixing one problem never reveals a duplicate that existed before."""
    text = f"tenant,alias,appids\na,x,{WX1};{WX1}\na,1,\nb,X,\n"
    assert problems_of(tmp_path / "t.csv", text) == (
        f"line 2: appids contains '{WX1}' more than once",
        f"line 3: {invalid_alias('1')}",
        "line 3: tenant 'a' is duplicated (first at line 2)",
        f"line 4: {invalid_alias('X')}",
        f"line 4: alias 'X' of tenant 'b' is already used by tenant 'a' (line 2); {CASE}",
    )


def test_aliases_are_compared_without_case(tmp_path: Path) -> None:
    """Given aliases are compared with each other, and with derived ones if the namespace is known."""
    text = f"tenant,alias\na,xY\nb,xy\nc,\nd,{derive_alias('wx', 'c')}\n"
    problems = problems_of(tmp_path / "t.csv", text, namespace="wx")
    assert [problem.partition(" (")[0] for problem in problems] == [
        "line 3: alias 'xy' of tenant 'b' is already used by tenant 'a'",
        f"line 5: alias '{derive_alias('wx', 'c')}' of tenant 'd' is already used by tenant 'c'",
    ]
    assert len(problems_of(tmp_path / "t.csv", text)) == 1


def test_invalid_header_reports_all_problems(tmp_path: Path) -> None:
    """Unknown, unnamed, duplicated and missing columns are reported; rows are only counted."""
    assert problems_of(tmp_path / "t.csv", "alias,alias,,colour\na,b,c,d,e\n,,,,\nx\n") == (
        "line 1: column 'alias' is duplicated",
        "line 1: column 3 has no name",
        f"line 1: unknown column 'colour' (known: {COLUMNS})",
        f"line 1: column 'tenant' is missing; the first line must be a header ({COLUMNS})",
        "line 2: 1 more values than columns; quote a value that contains a comma",
    )


@pytest.mark.parametrize("data", ["tenant;alias\na;b\n", '\ufeff"alias";"Tenant"\r\n"a";"b"\r\n', "\ntenant ; alias\n"])
def test_columns_separated_by_semicolons_are_one_problem(tmp_path: Path, data: str) -> None:
    """The rows are not read. Tabs are the same error."""
    advice = "; save the file with commas"
    assert problems_of(tmp_path / "t.csv", data) == (f"the columns are separated by ';'{advice}",)
    assert problems_of(tmp_path / "t.csv", data.replace(";", "\t")) == (f"the columns are separated by '\\t'{advice}",)


@pytest.mark.parametrize("separator", ["|", " ", " | "])
def test_appids_with_another_separator_are_one_problem(tmp_path: Path, separator: str) -> None:
    """The message has the separator to use."""
    cell = separator.join((WX1, WX1))
    assert problems_of(tmp_path / "t.csv", f"tenant,appids\na,{cell}\nb,\n") == (
        "line 2: appids: separate several appids by ';'",
    )


def test_unknown_column_does_not_hide_other_problems(tmp_path: Path) -> None:
    """The rows are read without that column."""
    assert problems_of(tmp_path / "t.csv", "tenant,alias,colour\na,9x,red\na,b,blue\n") == (
        f"line 1: unknown column 'colour' (known: {COLUMNS})",
        f"line 2: {invalid_alias('9x')}",
        "line 3: tenant 'a' is duplicated (first at line 2)",
    )


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("t.csv", "", f"the file is empty: the first line must be a header ({COLUMNS})"),
        (
            "t.csv",
            'tenant\na\n"b"c\n',
            "line 3: invalid CSV (',' expected after '\"'); the rest was not read",
        ),
        ("t.csv", '"', "line 1: invalid CSV (unexpected end of data); the rest was not read"),
        ("t.csv", "tenant\n\n", "the file contains no tenant"),
        (
            "t.csv",
            "tenant\na\n商户\n".encode("gbk"),
            (
                "line 3: not UTF-8 (byte 9, 0xc9); save the file as UTF-8; in Excel, choose Save As, "
                "'CSV UTF-8 (Comma delimited)' (CSV UTF-8(逗号分隔))"
            ),
        ),
        ("t.jsonl", b"\xff\xfe\n", "line 1: not UTF-8 (byte 0, 0xff); save the file as UTF-8"),
        ("t.toml", f"{'a.' * 32}a = 1\n", "line 1: a name has more than 32 parts"),
        ("t.toml", "# ok\n" + '"a" . ' * 32 + "a = 1\n", "line 2: a name has more than 32 parts"),
        ("t.toml", "#" * (2**20 + 1), "the file is larger than 1 MiB: use .jsonl or .csv"),
        ("t.jsonl", f'{{"tenant": "{"a" * 2**20}"}}', "line 1: longer than 1,048,576 characters"),
        ("t.csv", b"a" * (8 * 2**20 + 1), "the file is larger than 8 MiB: split it"),
        (
            "t.csv",
            f"tenant\na{',' * 2**20}\n",
            "line 2: invalid CSV (a row is longer than 1,048,576 characters); the rest was not read",
        ),
        ("t.csv", "\n" * 100_001, "the file has more than 100,000 lines: split it"),
        ("t.csv", "\r" * 100_001, "the file has more than 100,000 lines: split it"),
        ("t.csv", f"tenant\n{'a' * 32_768}\n", "line 2: a text is longer than 32,767 characters"),
        ("t.toml", "", "the file contains no tenant"),
        ("t.toml", "[tenant]\n", "tenant must be a list of tables: write [[tenant]] with two brackets"),
        ("t.toml", "[[tenants]]\n", "unknown table or field 'tenants': only [[tenant]] is supported"),
        ("t.toml", "a = \n", "invalid TOML: Invalid value (at line 1, column 5)"),
        ("t.toml", f"a = {'[' * 5000}{']' * 5000}\n", "invalid tenants file: it is nested too deeply"),
        ("t.toml", "tenant = [1]\n", "tenant 1: expected an object with the fields of a tenant, not int"),
        ("t.jsonl", '{"tenant": "a"}\n{"tenant": \n', "line 2, column 12: invalid JSON (unexpected end of data)"),
        ("t.jsonl", "[]", "line 1: expected an object with the fields of a tenant, not list"),
        ("t.xlsx", "", "unsupported file type '.xlsx' (supported: .csv, .toml, .jsonl, .ndjson)"),
    ],
)
def test_unreadable_file_is_reported_with_its_location(
    tmp_path: Path, name: str, data: str | bytes, problem: str
) -> None:
    """Empty, broken, wrongly encoded and unsupported files have one problem."""
    assert problems_of(tmp_path / name, data) == (problem,)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('{"alias": "x"}', "the tenant is missing"),
        ('{"tenant": 3}', "tenant: expected str"),
        ('{"tenant": "a", "alias": 3}', "alias: expected str"),
        ('{"tenant": "a", "appids": "wx"}', "appids: expected array"),
        ('{"tenant": "a", "appids": ["wx", 1]}', "appids[1]: expected str"),
        ('{"tenant": "a", "source_type": true}', "source_type: expected int"),
        ('{"tenant": "a", "services": [1]}', "services[0]: must be a name or a table of the fields of Server, not int"),
        ('{"tenant": "a", "services": [{}]}', "services[0].service_name: required field missing"),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "env_id": "e"}]}',
            "services[0]: env_id must be left out: the environment does not exist yet",
        ),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "colour": 1}]}',
            "services[0]: extra fields found (colour)",
        ),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "is_public": 1}]}',
            "services[0].is_public: expected bool",
        ),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "es_info": {"password": 77777}}]}',
            "services[0].es_info.password: expected str",
        ),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "vpc_info": 1}]}',
            "services[0].vpc_info: expected object",
        ),
        (
            '{"tenant": "a", "name": "b"}',
            f"unknown field 'name' (known: {COLUMNS}, source_type)",
        ),
        ('{"tenant": "a", "appids": ["WX1"]}', f"{APPID_RULE}, not 'WX1'"),
        ('{"tenant": "a", "appids": ["gh_12"]}', f"{APPID_RULE}, not 'gh_12'; gh_... is the original id (原始ID)"),
        (
            '{"tenant": "a", "services": ["ok", "api\uff1bweb"]}',
            f"services[1]: {NAME_RULE}, not 'api\uff1bweb'",
        ),
        ('{"tenant": "a", "services": [{"service_name": "2a"}]}', f"services[0]: {NAME_RULE}, not '2a'"),
        ('{"tenant": "a", "env": 3}', "env: expected str"),
        ('{"tenant": "a", "env": " "}', "env must be a non-empty string, not ''"),
        (f'{{"tenant": "a", "appids": [{"1," * 10_000}1]}}', "the tenant has more than 10,000 values"),
    ],
)
def test_invalid_field_is_reported_with_its_path(tmp_path: Path, table: str, problem: str) -> None:
    """Types are strict, unknown fields are rejected, and no value that may be secret is quoted."""
    assert problems_of(tmp_path / "t.jsonl", table) == (f"line 1: {problem}",)


def test_csv_that_would_fail_later_is_refused(tmp_path: Path) -> None:
    """Separators of any keyboard are understood; what the platform would reject after billing is refused."""
    text = f"""tenant,alias,appids,services
a,a1,"{WX1},{WX2}",web
b,b1,{WX1}\uff1b{WX2}、wx0000000000000003\uff0c,api\uff1bweb
c,c1,WX0000000000000001,web
d,d1,gh_123456;wx 0000000000000001,web site
"""
    problems = problems_of(tmp_path / "t.csv", text)
    assert [problem.partition(" must")[0] for problem in problems] == [
        "line 4: appids[0]",
        "line 5: appids[0]",
        "line 5: services[0]: name",
    ]


def test_number_of_too_many_bits_is_a_problem(tmp_path: Path) -> None:
    """A hexadecimal number is read whatever its length, but its decimal text would raise a ValueError."""
    text = f'[[tenant]]\ntenant = "a"\nsource_type = 0x{"f" * 5000}\n'
    assert problems_of(tmp_path / "t.toml", text) == ("tenant 1: a number is too large",)


def test_number_of_problems_is_limited(tmp_path: Path) -> None:
    """After 1,000 problems the rest is not read, and a long problem is truncated."""
    problems = problems_of(tmp_path / "t.csv", f"tenant,alias\na,{'9' * 500}\n" + "a\n" * 2_000)
    assert (len(problems), len(problems[0])) == (1_001, 501)
    assert problems[-1] == "the rest was not read after 1,000 problems"


def test_env_is_read(tmp_path: Path) -> None:
    """A tenant may name the environment that it adopts."""
    path = tmp_path / "t.csv"
    path.write_text("tenant,env\na,a-1\nb,\n")
    assert read_tenants(path) == (Tenant("a", env="a-1"), Tenant("b"))
    path = tmp_path / "t.jsonl"
    path.write_text('{"tenant": "a", "env": "a-1"}\n{"tenant": "b", "env": null}')
    assert read_tenants(path) == (Tenant("a", env="a-1"), Tenant("b"))


def test_duplicated_env_is_a_problem(tmp_path: Path) -> None:
    """An environment belongs to one tenant."""
    assert problems_of(tmp_path / "t.csv", "tenant,env\na,a-1\nb,b-1\nc,a-1\n") == (
        "line 4: environment 'a-1' of tenant 'c' is already used by tenant 'a' (line 2)",
    )


def test_adoptions_are_read(tmp_path: Path) -> None:
    """The CSV report of a run can be read: other columns, and rows without an environment, are ignored."""
    path = tmp_path / "t.csv"
    report = Report((TenantReport(tenant="商户", alias="a", outcome=Outcome.DONE, env="a-1"),), 1.0)
    path.write_text(render_csv(report) + "b\n", encoding="utf-8-sig")
    assert read_adoptions(path) == {"商户": "a-1"}
    path.write_text("env,tenant\na-1,a\n")
    assert read_adoptions(str(path)) == {"a": "a-1"}


@pytest.mark.parametrize(
    ("name", "text", "problems"),
    [
        ("t.csv", "tenant,env\na,x\na,y\n,z\n", ("line 3: tenant 'a' is duplicated", "line 4: the tenant is missing")),
        ("t.csv", "tenant,environment\na,x\n", ("line 1: the header must have the column 'env' once",)),
        (
            "t.csv",
            "env,env\na,x\n",
            tuple(f"line 1: the header must have the column '{n}' once" for n in ("tenant", "env")),
        ),
        ("t.csv", "", ("the file is empty: the first line must be a header (tenant, env)",)),
        ("t.json", "", ("unsupported file type '.json' (supported: .csv)",)),
    ],
)
def test_invalid_adoptions_are_reported(tmp_path: Path, name: str, text: str, problems: tuple[str, ...]) -> None:
    """All problems are reported at once, with their lines."""
    (tmp_path / name).write_text(text)
    with pytest.raises(TenantsFileError) as caught:
        read_adoptions(tmp_path / name)
    assert caught.value.problems == problems


def test_missing_file_and_directory_are_reported(tmp_path: Path) -> None:
    """The message has the path and the system's reason."""
    for path, reason in ((tmp_path / "no.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(TenantsFileError, match=reason) as caught:
            read_tenants(path)
        assert str(path) in str(caught.value)


def test_number_with_too_many_digits_is_a_problem(tmp_path: Path) -> None:
    """Python raises a plain ValueError for it, not the error of the parser."""
    number = "9" * 5000
    assert problems_of(tmp_path / "t.toml", f"a = {number}\n")[0].startswith("invalid TOML: ")
    problems = problems_of(tmp_path / "t.jsonl", f'{{"tenant": "a", "source_type": {number}}}')
    assert problems[0].startswith("line 1")


@pytest.mark.parametrize("depth", [900, 1010, 100_000])
def test_deeply_nested_json_is_a_problem(tmp_path: Path, depth: int) -> None:
    """The depth at which a parser fails does not matter."""
    problems = problems_of(tmp_path / "t.jsonl", f'{{"tenant": "a", "alias": {"[" * depth}{"]" * depth}}}')
    assert problems[0].startswith("line 1")


def test_duplicated_json_field_is_a_problem(tmp_path: Path) -> None:
    """This includes fields of a service; other problems of the line are reported too."""
    text = (
        '{"tenant": "a", "alias": "x", "alias": "9"}\n'
        '{"tenant": "b", "services": [{"service_name": "s", "remark": "1", "remark": "2"}]}\n'
    )
    assert problems_of(tmp_path / "t.jsonl", text) == (
        "line 1: field 'alias' is duplicated",
        f"line 1: {invalid_alias('9')}",
        "line 2: field 'remark' is duplicated",
    )
