"""MQTT 3.1, 3.1.1 and 5.0, both directions, without I/O.

Clauses: `MQTT-x.y.z-n` are the numbered statements of the OASIS standards 3.1.1 and 5.0.
"""
