"""A shop that charges orders and sends receipts."""
