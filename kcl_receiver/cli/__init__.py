"""The command kcl-receiver, one file a command."""
