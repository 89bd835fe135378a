"""Statistical guarantees for labels: certificates, estimates with intervals and a monitor."""
