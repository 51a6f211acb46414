"""Pictures and features of a frozen encoder, made once, kept and fed to networks."""
