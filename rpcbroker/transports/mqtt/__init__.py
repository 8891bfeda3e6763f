"""MQTT devices, gateways and, where it is allowed, ordinary publish and subscribe between clients of one tenant."""
