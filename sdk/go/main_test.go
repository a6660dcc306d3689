package chatapi_test

import (
	"os"
	"testing"
	"time"

	chatapi "chatapi.invalid/chatapi-go"
)

func TestMain(m *testing.M) {
	chatapi.CutPauses(20 * time.Millisecond) // there are 33 foreign answers to a call
	os.Exit(m.Run())
}
