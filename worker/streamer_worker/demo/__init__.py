"""A worker on an embedded DynamoDB, to look at. Needs the extra `demo`."""
