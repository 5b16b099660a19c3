package main

import (
	"strings"
	"testing"
)

// A task of an exporter that does not belong is reported, and so is an intruder's own violation.
func TestWhatAWrongExporterDoesIsTold(t *testing.T) {
	in := &intruders{pids: map[string]bool{"17": true}}
	if err := in.told([]string{"host-16", "host-171"}); err != nil {
		t.Error(err)
	}
	in.wrongs = []string{"it says that it belongs"}
	err := in.told([]string{"a-host-17"})
	if err == nil || !strings.Contains(err.Error(), "a-host-17") ||
		!strings.Contains(err.Error(), "belongs") {
		t.Error(err)
	}
}
