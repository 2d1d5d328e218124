"""A token store whose documents nobody can read who has the store alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs

from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.stores import StoredDocument, TokenStore
from wxtcb.validation import hide_arguments_in_traceback

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

EncryptionKey: TypeAlias = str | bytes | Secret


def _create_fernet(key: EncryptionKey | Sequence[EncryptionKey]) -> MultiFernet:
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ModuleNotFoundError:
        raise ImportError("SealedStore needs cryptography: pip install 'wxtcb[ticket]'", name="cryptography") from None
    keys = [key] if isinstance(key, str | bytes | Secret) or not isinstance(key, Iterable) else [*key]
    try:
        return MultiFernet([Fernet(each.reveal() if isinstance(each, Secret) else each) for each in keys])
    except (TypeError, ValueError, AttributeError):
        pass
    raise InvalidArgument("key must be one or more keys as cryptography's Fernet.generate_key() makes them")


@hide_arguments_in_traceback
@attrs.define(eq=False)
class EncryptedStore:
    """A store over any other, whose documents it encrypts with a *key* of the caller's (Fernet: AES-128-CBC and HMAC).

    Of several keys the first encrypts, and all decrypt: to change the key, first give every process the new one as the
    second, then as the first, then alone. A document that none of them opens is a `TokenStoreError`; it stays as it is.
    Whoever can write to the other store can still delete a document, or put an older one back.

    It needs the extra ``ticket``. The other store stays the caller's to close.
    """

    store: TokenStore
    _fernet: MultiFernet = attrs.field(alias="key", converter=_create_fernet, repr=False)

    async def load(self, component_appid: str) -> StoredDocument:
        kept = await self.store.load(component_appid)
        return kept if kept.document is None else attrs.evolve(kept, document=self._decrypt(kept.document))

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        sealed = self._fernet.encrypt(document.encode(errors="surrogatepass")).decode()
        return await self.store.compare_and_set(component_appid, sealed, version=version)

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        await self.store.wait_for_change(component_appid, version=version, timeout=timeout)

    def _decrypt(self, encrypted: str) -> str:
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(encrypted.encode(errors="surrogatepass")).decode(errors="surrogatepass")
        except InvalidToken:
            pass
        raise TokenStoreError(
            "keeps what was sealed with a key that is not among ours, or was not sealed", permanent=True
        )
