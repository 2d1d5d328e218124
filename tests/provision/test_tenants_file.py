"""Tenants files: what is read, and how everything that is wrong is told at once."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb.api.cloudrun import EsInfo, Server, VpcInfo
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Service, Tenant, TenantsFileError, derive_alias, read_tenants
from wxtcb.provision.tenant import PLACEHOLDER_ENV_ID

CASE = "upper and lower case make no difference"
WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters=";"), min_size=1).map(str.strip)
VALUES = st.lists(WORDS.filter(bool), unique=True, max_size=3).map(tuple)
TENANTS = st.lists(
    st.builds(
        Tenant,
        st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).map(str.strip).filter(bool),
        alias=st.none(),
        appids=VALUES,
        services=VALUES.map(lambda names: tuple(map(Service.from_name, names))),
    ),
    min_size=1,
    unique_by=lambda tenant: tenant.name,
)


def problems_of(path: Path, data: str | bytes, **options: str) -> tuple[str, ...]:
    """Write *data* to *path*, and return what speaks against it."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(TenantsFileError) as caught:
        read_tenants(path, **options)
    error = caught.value
    assert isinstance(error, InvalidArgument)
    assert error.path == path
    assert all(problem in str(error) for problem in error.problems)
    return error.problems


@pytest.mark.unmeasured
@given(TENANTS, st.sampled_from(["", "\ufeff"]), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_as_csv_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, tenants: list[Tenant], bom: str, end: str
) -> None:
    """Any valid tenants survive the way through a file, with and without BOM, with either line end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(["tenant", "alias", "appids", "services"])
    for tenant in tenants:
        services = ";".join(service.name for service in tenant.services)
        writer.writerow([tenant.name, tenant.alias, ";".join(tenant.appids), services])
    path = tmp_path_factory.mktemp("csv") / "tenants.csv"
    path.write_bytes((bom + text.getvalue()).encode())
    assert read_tenants(path) == tuple(tenants)


def test_a_csv_may_be_untidy(tmp_path: Path) -> None:
    """Stray spaces, blank lines, empty cells, short rows and capitals in the header are tolerated."""
    path = tmp_path / "t.CSV"
    path.write_text(' Tenant ,alias, appids,services\n 商户 , a1 , wx1 ; wx2;, api; web \n\n , ,\n"b",,,,,\nc\n')
    services = (Service.from_name("api"), Service.from_name("web"))
    first = Tenant("商户", alias="a1", appids=["wx1", "wx2"], services=services)
    assert read_tenants(path) == (first, Tenant("b"), Tenant("c"))


def test_toml_takes_all_a_service_has(tmp_path: Path) -> None:
    """A service is a name or a table of Server's fields; it is closed to the internet unless it says otherwise."""
    path = tmp_path / "t.toml"
    path.write_text(
        '[[tenant]]\ntenant = " a "\nalias = "x"\nappids = ["wx1"]\nsource_type = 1\n'
        'services = ["api", {service_name = "web", remark = "备注", vpc_info = {subnet_ids = ["s"], create_type = 1}, '
        'es_info = {id = 1, port = 9200, password = "pw"}}]\n'
    )
    web = Server(
        env_id=PLACEHOLDER_ENV_ID,
        service_name="web",
        is_public=False,
        remark="备注",
        vpc_info=VpcInfo(subnet_ids=["s"], create_type=1),
        es_info=EsInfo(id=1, port=9200, password="pw"),
    )
    services = (Service.from_name("api"), Service(web))
    assert read_tenants(path) == (Tenant("a", alias="x", appids=["wx1"], services=services, source_type=1),)


@pytest.mark.parametrize("ending", ["jsonl", "ndjson"])
def test_json_lines_are_objects(tmp_path: Path, ending: str) -> None:
    """One tenant a line, blank lines skipped, null for what is not given."""
    path = tmp_path / f"t.{ending}"
    path.write_text('\ufeff{"tenant": "a", "alias": null}\r\n\n{"tenant": "b", "services": [{"service_name": "s"}]}')
    assert read_tenants(str(path)) == (Tenant("a"), Tenant("b", services=[Service.from_name("s")]))


def test_every_flaw_of_a_csv_is_told_with_its_line(tmp_path: Path) -> None:
    """Also two in one row, and rows after a quoted line break keep their numbers."""
    text = 'tenant,alias,appids\n,x\n"two\nlines"\na,1,w;w\na,ok,,more\na,b\nA,B\na\n'
    assert problems_of(tmp_path / "t.csv", text) == (
        "line 2: the tenant must be a text that is not empty, not ''",
        "line 3: the tenant must hold no control characters (NUL, line breaks and the like), not 'two\\nlines'",
        "line 5: alias must start with a-z and hold only a-z, A-Z, 0-9 and '-', not '1'",
        "line 5: appids holds 'w' more than once",
        "line 6: 1 more cells than columns; quote a value that holds a comma",
        "line 7: tenant 'a' is there already (line 5)",
        "line 8: alias must start with a-z and hold only a-z, A-Z, 0-9 and '-', not 'B'",
        f"line 8: alias 'B' of tenant 'A' is that of tenant 'a' already (line 7); {CASE}",
        "line 9: tenant 'a' is there already (line 5)",
    )


def test_doubles_are_told_of_rows_with_other_flaws_too(tmp_path: Path) -> None:
    """Mending one flaw never shows another that was there before."""
    text = "tenant,alias,appids\na,x,w;w\na,1,\nb,X,\n"
    assert problems_of(tmp_path / "t.csv", text) == (
        "line 2: appids holds 'w' more than once",
        "line 3: alias must start with a-z and hold only a-z, A-Z, 0-9 and '-', not '1'",
        "line 3: tenant 'a' is there already (line 2)",
        "line 4: alias must start with a-z and hold only a-z, A-Z, 0-9 and '-', not 'X'",
        f"line 4: alias 'X' of tenant 'b' is that of tenant 'a' already (line 2); {CASE}",
    )


def test_aliases_are_compared_without_case(tmp_path: Path) -> None:
    """Given ones with each other, and with derived ones where the namespace is known."""
    text = f"tenant,alias\na,xY\nb,xy\nc,\nd,{derive_alias('wx', 'c')}\n"
    told = problems_of(tmp_path / "t.csv", text, namespace="wx")
    assert [problem.partition(" already")[0] for problem in told] == [
        "line 3: alias 'xy' of tenant 'b' is that of tenant 'a'",
        f"line 5: alias '{derive_alias('wx', 'c')}' of tenant 'd' is that of tenant 'c'",
    ]
    assert len(problems_of(tmp_path / "t.csv", text)) == 1


def test_a_header_tells_all_its_flaws_and_those_of_cells(tmp_path: Path) -> None:
    """Unknown, unnamed, doubled and missing columns; the rows below are only counted."""
    assert problems_of(tmp_path / "t.csv", "alias,alias,,colour\na,b,c,d,e\n,,,,\nx\n") == (
        "line 1: column 'alias' is there twice",
        "line 1: column 3 has no name",
        "line 1: unknown column 'colour'; there are tenant, alias, appids, services",
        "line 1: there is no column 'tenant'; the first line must name the columns (tenant, alias, appids, services)",
        "line 2: 1 more cells than columns; quote a value that holds a comma",
    )


def test_an_unknown_column_hides_no_flaw_below_it(tmp_path: Path) -> None:
    """The rows are read all the same, without that column."""
    assert problems_of(tmp_path / "t.csv", "tenant,alias,colour\na,9x,red\na,b,blue\n") == (
        "line 1: unknown column 'colour'; there are tenant, alias, appids, services",
        "line 2: alias must start with a-z and hold only a-z, A-Z, 0-9 and '-', not '9x'",
        "line 3: tenant 'a' is there already (line 2)",
    )


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("t.csv", "", "the file is empty: its first line must name the columns (tenant, alias, appids, services)"),
        ("t.csv", 'tenant\na\n"b"c\n', "line 3: not CSV from here on (',' expected after '\"')"),
        ("t.csv", '"', "line 1: not CSV from here on (unexpected end of data)"),
        ("t.csv", "tenant\n\n", "there is no tenant in it"),
        ("t.csv", b"tenant\na\n\xff\xfe\n", "line 3: not UTF-8 (byte 9, 0xff); save the file as UTF-8"),
        ("t.toml", "", "there is no tenant in it"),
        ("t.toml", "[tenant]\n", "tenant must be a list of tables: write [[tenant]], with two brackets"),
        ("t.toml", "[[tenants]]\n", "unknown table or field 'tenants'; there is only [[tenant]]"),
        ("t.toml", "a = \n", "not TOML: Invalid value (at line 1, column 5)"),
        ("t.toml", f"a = {'[' * 5000}{']' * 5000}\n", "not a tenants file: it is nested too deeply"),
        ("t.toml", "tenant = [1]\n", "tenant 1: must be an object with the fields of a tenant, not int"),
        ("t.jsonl", '{"tenant": "a"}\n{"tenant": \n', "line 2, column 12: not JSON (unexpected end of data)"),
        ("t.jsonl", "[]", "line 1: must be an object with the fields of a tenant, not list"),
        ("t.xlsx", "", "unknown ending '.xlsx'; wanted is .csv, .toml, .jsonl, .ndjson"),
    ],
)
def test_a_file_that_is_none_is_told_by_place(tmp_path: Path, name: str, data: str | bytes, problem: str) -> None:
    """Empty, broken, of the wrong encoding, or of an unknown kind."""
    assert problems_of(tmp_path / name, data) == (problem,)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('{"alias": "x"}', "the tenant is missing"),
        ('{"tenant": 3}', "tenant: must be a text, not int"),
        ('{"tenant": "a", "alias": 3}', "alias: must be a text, not int"),
        ('{"tenant": "a", "appids": "wx"}', "appids: must be a list, not str"),
        ('{"tenant": "a", "appids": ["wx", 1]}', "appids[1]: must be a text, not int"),
        ('{"tenant": "a", "source_type": true}', "source_type: must be a whole number, not bool"),
        ('{"tenant": "a", "services": [1]}', "services[0]: must be a name or a table of the fields of Server, not int"),
        ('{"tenant": "a", "services": [{}]}', "services[0].service_name: is missing"),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "env_id": "e"}]}',
            "services[0]: env_id is not known yet: leave it out",
        ),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "colour": 1}]}',
            "services[0]: unknown field 'colour'",
        ),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "is_public": 1}]}',
            "services[0].is_public: must be true or false, not int",
        ),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "es_info": {"password": 77777}}]}',
            "services[0].es_info.password: must be a text that is not empty",
        ),
        (
            '{"tenant": "a", "services": [{"service_name": "s", "vpc_info": 1}]}',
            "services[0].vpc_info: must be a table, not int",
        ),
        (
            '{"tenant": "a", "name": "b"}',
            "unknown field 'name'; a tenant has tenant, alias, appids, services, source_type",
        ),
    ],
)
def test_a_wrong_field_is_told_by_path(tmp_path: Path, table: str, problem: str) -> None:
    """Types are strict, unknown fields are refused, and no value that may be secret is quoted."""
    assert problems_of(tmp_path / "t.jsonl", table) == (f"line 1: {problem}",)


def test_a_missing_file_and_a_directory_are_told(tmp_path: Path) -> None:
    """The path and the system's reason are in the message."""
    for path, reason in ((tmp_path / "no.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(TenantsFileError, match=reason) as caught:
            read_tenants(path)
        assert str(path) in str(caught.value)


def test_a_number_beyond_all_measure_is_a_flaw(tmp_path: Path) -> None:
    """Python refuses to read it, and not as an error of TOML or JSON."""
    number = "9" * 5000
    assert problems_of(tmp_path / "t.toml", f"a = {number}\n")[0].startswith("not TOML: ")
    told = problems_of(tmp_path / "t.jsonl", f'{{"tenant": "a", "source_type": {number}}}')
    assert told[0].startswith("line 1")


@pytest.mark.parametrize("depth", [900, 1010, 100_000])
def test_deep_json_is_a_flaw(tmp_path: Path, depth: int) -> None:
    """However deep the parsers go."""
    told = problems_of(tmp_path / "t.jsonl", f'{{"tenant": "a", "alias": {"[" * depth}{"]" * depth}}}')
    assert told[0].startswith("line 1")


def test_a_field_given_twice_is_a_flaw(tmp_path: Path) -> None:
    """Also within a service: JSON itself would let the last one win; what else is wrong is told too."""
    text = (
        '{"tenant": "a", "alias": "x", "alias": "9"}\n'
        '{"tenant": "b", "services": [{"service_name": "s", "remark": "1", "remark": "2"}]}\n'
    )
    assert problems_of(tmp_path / "t.jsonl", text) == (
        "line 1: field 'alias' is there twice",
        "line 1: alias must start with a-z and hold only a-z, A-Z, 0-9 and '-', not '9'",
        "line 2: field 'remark' is there twice",
    )
