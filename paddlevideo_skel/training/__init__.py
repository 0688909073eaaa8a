"""Training and testing: losses, schedules, distillation, metrics, the loop."""
