"""What the operating system and its operator ask of a daemon: locks, logs, certificates, notifications."""
