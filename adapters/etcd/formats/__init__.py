"""What is written into etcd, a module for each library that writes (pure)."""
