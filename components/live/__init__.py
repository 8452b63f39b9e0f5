"""What stands in the Kubernetes cluster before the program declares anything. Reads only."""
