package files_test

import (
	"testing"

	"go.uber.org/goleak"

	"ehi-server/shared/files"
	"ehi-server/shared/files/filestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocalIsAFileStore(t *testing.T) {
	filestest.Run(t, func(t *testing.T, spill int) filestest.Store {
		s, err := files.NewLocal(files.Config{Root: t.TempDir(), SpillBytes: spill})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
