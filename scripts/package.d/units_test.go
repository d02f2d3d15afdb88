package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

// maxExposure is what systemd may say of how much the service could do, of 10.
const maxExposure = 2.5

// TestUnits: systemd has nothing to say against the units but that their program is not
// installed here, and finds that the service can do little.
func TestUnits(t *testing.T) {
	analyze := mysqldtest.Program(t, "systemd-analyze")
	service := filepath.Join("units", "hb-backup.service")
	out, _ := exec.Command(analyze, "verify", service, filepath.Join("units", "hb-backup.timer")).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "hb-backup") && !strings.Contains(line, "/usr/lib/hb/hb-nightly is not executable") && !strings.Contains(line, "'man hb(1)'") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", service).CombinedOutput()
	m := regexp.MustCompile(`Overall exposure level for hb-backup.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("systemd-analyze security: %v: %s", err, out)
	}
	exposure, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || exposure > maxExposure {
		t.Errorf("exposure %s, at most %v: %v\n%s", m[1], maxExposure, err, out)
	}
	t.Logf("exposure %v", exposure)
}
