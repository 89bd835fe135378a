"""Labels one can defend: certificates, estimates with intervals, a monitor, and the pile's job."""
