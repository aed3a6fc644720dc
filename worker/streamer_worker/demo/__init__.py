"""A demonstration of a worker on an embedded DynamoDB. Needs the extra `demo`."""
