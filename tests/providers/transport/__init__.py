"""The HTTP/2 client that APNs and FCM share."""
