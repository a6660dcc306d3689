"""WebSockets: `handshake` lets them in, `held_head` keeps the head of its response for `ready`, `client_socket` hears
from the transport, `frame_reader` takes bytes apart, `session` judges frames, `commands` carries them out, `heartbeat`
watches over all connections; `faulty_session` makes faults for those who test."""
