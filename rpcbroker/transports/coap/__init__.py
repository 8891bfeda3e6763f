"""Devices that speak CoAP, over UDP and over DTLS."""
