"""The simulated platform, held to what it promises."""
