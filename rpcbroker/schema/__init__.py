"""The JSON of the interfaces, one module for all: REST and its OpenAPI document, the feed, the command line.

A name that ends in JSON is what is answered, in Body what is sent, in Query what stands behind the
question mark. Fields are the members of the wire, in snake_case here and camelCase there; the
vendors' SDKs are strict about them.
"""
