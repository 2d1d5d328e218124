"""A token store whose documents nobody can read who has the store alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs

from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.stores import Kept, TokenStore
from wxtcb.validation import forgetful

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

Key: TypeAlias = str | bytes | Secret


def _seal_of(key: Key | Sequence[Key]) -> MultiFernet:
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


@forgetful
@attrs.define(eq=False)
class SealedStore:
    """A store over any other, whose documents it encrypts with a *key* of the caller's (Fernet: AES-128-CBC and HMAC).

    Of several keys the first encrypts, and all decrypt: to change the key, first give every process the new one as the
    second, then as the first, then alone. A document that none of them opens is a `TokenStoreError`; it stays as it is.
    Whoever can write to the other store can still delete a document, or put an older one back.

    It needs the extra ``ticket``. The other store stays the caller's to close.
    """

    store: TokenStore
    _seal: MultiFernet = attrs.field(alias="key", converter=_seal_of, repr=False)

    async def load(self, component_appid: str) -> Kept:
        kept = await self.store.load(component_appid)
        return kept if kept.document is None else attrs.evolve(kept, document=self._opened(kept.document))

    async def swap(self, component_appid: str, document: str, *, version: str) -> bool:
        sealed = self._seal.encrypt(document.encode(errors="surrogatepass")).decode()
        return await self.store.swap(component_appid, sealed, version=version)

    async def changed(self, component_appid: str, *, version: str, within: float) -> None:
        await self.store.changed(component_appid, version=version, within=within)

    def _opened(self, sealed: str) -> str:
        from cryptography.fernet import InvalidToken

        try:
            return self._seal.decrypt(sealed.encode(errors="surrogatepass")).decode(errors="surrogatepass")
        except InvalidToken:
            pass
        raise TokenStoreError(
            "keeps what was sealed with a key that is not among ours, or was not sealed", lasting=True
        )
