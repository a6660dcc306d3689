"""WebSockets: `handshake` lets them in, `session` reads their frames, `commands` carries them out, `heartbeat` watches
over all of them."""
