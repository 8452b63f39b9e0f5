"""The Pulumi program under mocks: no cluster, no CLI."""
