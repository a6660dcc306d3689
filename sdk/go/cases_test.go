package chatapi_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// shared is tests/sdk_cases.json: what every SDK has to show.
var shared = readShared()

type sharedCases struct {
	Cases []struct {
		Name string   `json:"name"`
		Over []string `json:"over"`
	} `json:"cases"`
	Moves []struct {
		About    string  `json:"about"`
		From     string  `json:"from"`
		URL      any     `json:"url"`
		GoesOnAt *string `json:"goes_on_at"`
	} `json:"moves"`
	KeptStreams []struct {
		About  string            `json:"about"`
		Shown  json.RawMessage   `json:"shown"`
		Events []json.RawMessage `json:"events"`
		Shows  json.RawMessage   `json:"shows"`
	} `json:"kept_streams"`
	KeptMessages []struct {
		About     string          `json:"about"`
		Reactions json.RawMessage `json:"reactions"`
		Events    [][]any         `json:"events"`
		Shows     json.RawMessage `json:"shows"`
	} `json:"kept_messages"`
	Faults struct {
		Cases []struct {
			Name  string                       `json:"name"`
			Over  []string                     `json:"over"`
			Steps []map[string]json.RawMessage `json:"steps"`
		} `json:"cases"`
	} `json:"faults"`
	Newer struct {
		Fields     map[string]json.RawMessage `json:"fields"`
		Frames     []map[string]any           `json:"frames"`
		CloseCodes []int                      `json:"close_codes"`
	} `json:"newer_server"`
	ForeignAnswers map[string]string `json:"foreign_answers"`
}

func readShared() (shared sharedCases) {
	data, err := os.ReadFile("../../tests/sdk_cases.json")
	if err == nil {
		err = json.Unmarshal(data, &shared)
	}
	if err != nil {
		panic(err)
	}
	return shared
}

// cases are the shared cases, by name; a file for each subject adds its own.
var cases = map[string]func(*testing.T){}

func TestSharedCases(t *testing.T) {
	transport := os.Getenv("CHATAPI_TEST_TRANSPORT")
	for _, one := range shared.Cases {
		if transport != "" && one.Over != nil && !slices.Contains(one.Over, transport) {
			continue
		}
		t.Run(one.Name, func(t *testing.T) {
			run := cases[one.Name]
			if run == nil {
				t.Fatal("this SDK does not show this case")
			}
			run(t)
		})
	}
}

func TestEveryCaseIsShared(t *testing.T) {
	isShared := map[string]bool{}
	for _, one := range shared.Cases {
		isShared[one.Name] = true
	}
	for name := range cases {
		if !isShared[name] {
			t.Errorf("%s is no case of tests/sdk_cases.json", name)
		}
	}
}
