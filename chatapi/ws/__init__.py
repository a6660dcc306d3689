"""WebSockets: `handshake` lets them in, `session` reads their frames, `commands` carries them out, `heartbeat` watches
over all of them; `faulty_socket` makes faults for those who test."""
