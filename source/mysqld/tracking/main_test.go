package tracking

import (
	"os"
	"testing"

	"hb/stream/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }
