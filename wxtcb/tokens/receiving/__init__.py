"""How pushes are taken in: what `wxtcb.tokens.ticket` stands on. It needs the extra ``[ticket]``."""
