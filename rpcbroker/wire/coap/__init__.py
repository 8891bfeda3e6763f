"""The Constrained Application Protocol, bytes <-> values: RFC 7252, 7641 (observe), 7959 (blocks), 9175 (echo)."""
