package recipes

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("metrics.md", testMetrics, mysqldtest.MariaDB1011) }

// testMetrics: the metrics are those of the backup, when it succeeds and when it fails,
// and a listener is told of both.
func testMetrics(t *testing.T, r *recipe, root *mysqldtest.Root) {
	for _, p := range []string{"jq", "curl"} {
		mysqldtest.Program(t, p)
	}
	var mu sync.Mutex
	var pings []string
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		pings = append(pings, q.URL.Path)
	}))
	defer service.Close()
	db := newHost(t, "db", root)
	fill(t, db.serve(mysqldtest.Options{Binlog: true}))
	sh := db.shell()
	metrics := r.run(sh, "Prometheus")
	line := regexp.MustCompile(`^(# (HELP|TYPE) hb_backup_[a-z_]+ .+|hb_backup_[a-z_]+ [0-9.]+)$`)
	for l := range strings.Lines(metrics[strings.Index(metrics, "# HELP"):]) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("%q is not in the text format", l)
		}
	}
	size := sh.must("stat -c %s /var/backups/backup.hb")
	for _, want := range []string{"hb_backup_success 1\n", "hb_backup_running 0\n", "hb_backup_exit_code 0\n", "hb_backup_bytes " + size} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q in %s", want, metrics)
		}
	}
	age := sh.must(`echo $(( $(date +%s) - $(awk '$1 == "hb_backup_end_timestamp_seconds" { print $2 }' /var/lib/node_exporter/hb.prom) ))`)
	if !regexp.MustCompile(`^[0-9]{1,2}\n$`).MatchString(age) {
		t.Errorf("the backup is %s seconds old", age)
	}

	db.write("/etc/hb-ping", service.URL+"/check\n")
	r.run(sh, "Health-check pings")
	if err := db.stop(); err != nil {
		t.Fatal(err)
	}
	sh.fails(3, "is the server running?", "hb-pinged")
	failed := db.read("/var/lib/node_exporter/hb.prom")
	for _, want := range []string{"hb_backup_success 0\n", "hb_backup_exit_code 3\n"} {
		if !strings.Contains(failed, want) {
			t.Errorf("no %q in %s", want, failed)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"/check/start", "/check/0", "/check/start", "/check/3"}; !slices.Equal(pings, want) {
		t.Errorf("pings: %q, want %q", pings, want)
	}
}
