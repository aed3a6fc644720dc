"""What one worker of the fleet does for all: rescues, reaping, counting."""
