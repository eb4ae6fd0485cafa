"""Dynamic Power Discovery: adverts of providers on the link, which of them to take, our own."""
