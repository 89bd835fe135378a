"""What `sentikit doctor` finds out."""
