"""Labels one can defend: certificates, estimates with intervals, monitoring, checks by hand."""
