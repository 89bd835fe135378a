"""Labels one can defend: certificates, estimates with intervals, and a monitor; pure statistics."""
