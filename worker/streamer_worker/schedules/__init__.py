"""From cron expressions to requests: what the schedules are, and who makes which tick when."""
