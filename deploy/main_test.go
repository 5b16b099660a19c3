package deploy_test

import (
	"os"
	"testing"

	"ehi-server/shared/built"
)

func TestMain(m *testing.M) { os.Exit(built.Main(m)) }
