"""A tenant moves to another server (docs/design.md, section 13).

`departures`: the source. `arrivals`: the target. `peer`: the calls of the one to the other.
"""
