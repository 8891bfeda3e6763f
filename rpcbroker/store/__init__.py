"""What outlives the process: devices, users, credentials, presence, counters."""
