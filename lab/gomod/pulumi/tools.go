//go:build tools

package lab

import (
	_ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
)
