"""Both transports, on real sockets."""
