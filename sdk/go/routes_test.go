package chatapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	chatapi "chatapi.invalid/chatapi-go"
)

// asked is a request that a recorder got.
type asked struct {
	method, path string
	query        []string
}

// recorder answers every request with a refusal, and keeps what was asked for.
type recorder struct {
	mu    sync.Mutex
	asked []asked
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var query []string
	for name := range request.URL.Query() {
		query = append(query, name)
	}
	sort.Strings(query)
	r.mu.Lock()
	defer r.mu.Unlock()
	path := strings.TrimPrefix(request.URL.EscapedPath(), "/v1")
	r.asked = append(r.asked, asked{strings.ToLower(request.Method), path, query})
	w.WriteHeader(404)
	_, _ = w.Write([]byte(`{"success":false,"data":null,"error":{"code":"NOT_FOUND","message":"no"}}`))
}

func (r *recorder) take() []asked {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.asked
	r.asked = nil
	return taken
}

// No route of their own: any route, and connections and streams over several.
var noRoute = []string{"As", "Call", "Close", "Connect", "ReadText", "Stream", "URL"}

// fill makes something of each type, so that every field that may be given is.
func fill(value reflect.Value) {
	switch value.Kind() {
	case reflect.String:
		value.SetString("x")
	case reflect.Int, reflect.Int64:
		value.SetInt(2_000_000_000) // as a duration, 2 s
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 1, 1))
		fill(value.Index(0))
	case reflect.Map:
		value.Set(reflect.MakeMap(value.Type()))
		one := reflect.New(value.Type().Elem()).Elem()
		fill(one)
		value.SetMapIndex(reflect.ValueOf("x"), one)
	case reflect.Struct:
		switch field := value.Addr().Interface().(type) {
		case *chatapi.Optional[int64]:
			*field = chatapi.Set[int64](1)
			return
		}
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() {
				fill(value.Field(i))
			}
		}
	}
}

// ask calls a method and returns the one request that it makes.
func (r *recorder) ask(t *testing.T, client any, name string) asked {
	t.Helper()
	method := reflect.ValueOf(client).MethodByName(name)
	arguments := []reflect.Value{reflect.ValueOf(context.Background())}
	for i := 1; i < method.Type().NumIn(); i++ {
		argument := reflect.New(method.Type().In(i)).Elem()
		fill(argument)
		arguments = append(arguments, argument)
	}
	results := method.Call(arguments)
	err, _ := results[len(results)-1].Interface().(error)
	refused(t, err, chatapi.CodeNotFound, 404)
	taken := r.take()
	if len(taken) != 1 {
		t.Fatalf("%s makes %d requests", name, len(taken))
	}
	return taken[0]
}

func TestEveryRouteHasItsMethod(t *testing.T) {
	r := newRig(t)
	document, err := r.backend.OpenAPI(r.ctx)
	must(t, err)
	paths := document["paths"].(map[string]any)
	server := httptest.NewServer(&recorder{})
	defer server.Close()
	recorder := server.Config.Handler.(*recorder)
	client, err := chatapi.New(server.URL, chatapi.APIKey("k", "u"), &chatapi.Options{Retries: -1})
	must(t, err)
	admin, err := chatapi.NewAdmin(server.URL, "m", &chatapi.Options{Retries: -1})
	must(t, err)
	defer client.Close()
	defer admin.Close()
	found := map[string][]string{} // the names in the query, by route
	for _, client := range []any{client, admin} {
		kind := reflect.TypeOf(client)
		for i := range kind.NumMethod() {
			if name := kind.Method(i).Name; !slices.Contains(noRoute, name) {
				asked := recorder.ask(t, client, name)
				route := findRoute(t, paths, asked)
				found[route] = append(found[route], asked.query...)
			}
		}
	}
	for path, entry := range paths {
		for method, operation := range entry.(map[string]any) {
			route := method + " " + path
			// An event stream is a connection, as `/ws` is. Pipes are for programs without a library.
			if route == "get /events/stream" || strings.HasSuffix(path, "/messages/stream") || method == "parameters" || method == "head" {
				continue
			}
			query, ok := found[route]
			if !ok {
				t.Errorf("no method calls %s", route)
				continue
			}
			slices.Sort(query)
			equal(t, append([]string{route}, slices.Compact(query)...), append([]string{route}, queryOf(operation)...))
		}
	}
}

func queryOf(operation any) []string {
	var names []string
	parameters, _ := operation.(map[string]any)["parameters"].([]any)
	for _, one := range parameters {
		if parameter := one.(map[string]any); parameter["in"] == "query" {
			names = append(names, parameter["name"].(string))
		}
	}
	sort.Strings(names)
	return names
}

var parameterPattern = regexp.MustCompile(`\\\{[^}]*\\\}`)

// findRoute: a path without a parameter comes first.
func findRoute(t *testing.T, paths map[string]any, asked asked) string {
	t.Helper()
	best := ""
	for path, entry := range paths {
		pattern := "^" + parameterPattern.ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$"
		_, hasMethod := entry.(map[string]any)[asked.method]
		if hasMethod && regexp.MustCompile(pattern).MatchString(asked.path) && (best == "" || strings.Count(path, "{") < strings.Count(best, "{")) {
			best = path
		}
	}
	if best == "" {
		t.Fatalf("no route is %s %s", asked.method, asked.path)
	}
	return asked.method + " " + best
}

type brokenWriter struct{ after int }

var errDisk = errors.New("disk full")

func (b *brokenWriter) Write(data []byte) (int, error) {
	if b.after -= len(data); b.after < 0 {
		return 0, errDisk
	}
	return len(data), nil
}

func TestATenantLeavesAsAFileAndComesBack(t *testing.T) {
	r := newRig(t)
	admin, err := chatapi.NewAdmin(setting("URL"), setting("MASTER_KEY"), nil)
	must(t, err)
	defer admin.Close()
	made, err := admin.CreateTenant(r.ctx, "mover", nil)
	must(t, err)
	var file bytes.Buffer
	size, err := admin.ExportTenant(r.ctx, made.TenantID, &file)
	must(t, err)
	equal(t, size, int64(file.Len()))
	_, err = admin.ExportTenant(r.ctx, made.TenantID, &brokenWriter{after: 1000})
	if !errors.Is(err, errDisk) {
		t.Errorf("the writer's error is not told: %v", err)
	}
	_, err = admin.ImportTenant(r.ctx, bytes.NewReader(file.Bytes()))
	refused(t, err, chatapi.CodeConflict, 409)
	must(t, admin.DeleteTenant(r.ctx, made.TenantID))
	_, err = admin.ExportTenant(r.ctx, made.TenantID, io.Discard)
	refused(t, err, chatapi.CodeNotFound, 404)
	tenant, err := admin.ImportTenant(r.ctx, &file)
	must(t, err)
	equal(t, []string{tenant.TenantID, tenant.Name}, []string{made.TenantID, "mover"})
	_, err = admin.ImportTenant(r.ctx, strings.NewReader("no database"))
	refused(t, err, chatapi.CodeValidation, 400)
}

func TestBackendsEventsAreNamedInTheConfig(t *testing.T) {
	r := newRig(t)
	admin, err := chatapi.NewAdmin(setting("URL"), setting("MASTER_KEY"), nil)
	must(t, err)
	defer admin.Close()
	events := []any{"message.created", "user.online"}
	made, err := admin.CreateTenant(r.ctx, "told", map[string]any{"webhook_events": events})
	must(t, err)
	tenant, err := admin.GetTenant(r.ctx, made.TenantID)
	must(t, err)
	equal(t, tenant.Config["webhook_events"], any(events))
	change := chatapi.TenantChange{Config: chatapi.Set(map[string]any{"webhook_events": []string{"message.create"}})}
	_, err = admin.UpdateTenant(r.ctx, made.TenantID, change)
	refused(t, err, chatapi.CodeValidation, 400)
}
