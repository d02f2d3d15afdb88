package workload
import ("testing";"time";"context";"hb/source/mysqld/mysqldtest")
func TestCrashX(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		l, err := Prepare(t.Context(), s.DB(), Options{DDLRate: -1, Rate: 200})
		if err != nil { t.Fatal(err) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(4*time.Second)
		s.Kill()
		t.Log(<-done)
		cancel()
		time.Sleep(time.Second)
		s2 := mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Binlog: true})
		t.Log(Check(t.Context(), s2.DB()))
	})
}
