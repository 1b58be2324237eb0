// Package utils: what stands in the place of gitleaks's own file of this name when its rules are compiled.
//
// Each of gitleaks's rules comes as a function that hands itself and the cases it was written against to one of the two functions here.
// Gitleaks's own hold the rule against them; these write them down, a line of JSON for each case. Some cases are made by chance, and
// some of those turn out as ones that gitleaks itself doesn't judge as it says: they are written down as such.
package utils

import (
	"encoding/json"
	"os"
	"sort"
	"strings"

	"github.com/zricethezav/gitleaks/v8/cmd/generate/config/base"
	"github.com/zricethezav/gitleaks/v8/config"
	"github.com/zricethezav/gitleaks/v8/detect"
)

// Case is one text, and what a rule has to say of it.
type Case struct {
	Rule string `json:"rule"`
	// Path is the file that the text stands in, where that is part of the rule.
	Path     string `json:"path,omitempty"`
	Positive bool   `json:"positive"`
	Text     string `json:"text"`
	// Values are what gitleaks finds in it.
	Values []string `json:"values"`
}

var out = json.NewEncoder(os.Stdout)

// Validate writes the cases of a rule down.
func Validate(rule config.Rule, truePositives []string, falsePositives []string) *config.Rule {
	// Some lists are made of maps, and come in another order each time.
	sort.Strings(truePositives)
	sort.Strings(falsePositives)
	detector := single(&rule)
	for _, text := range truePositives {
		write(detector, Case{Rule: rule.RuleID, Positive: true, Text: text})
	}
	for _, text := range falsePositives {
		write(detector, Case{Rule: rule.RuleID, Text: text})
	}
	return &rule
}

// ValidateWithPaths does so for a rule that is about files of some names.
func ValidateWithPaths(rule config.Rule, truePositives map[string]string, falsePositives map[string]string) *config.Rule {
	detector := single(&rule)
	for _, path := range sorted(truePositives) {
		write(detector, Case{Rule: rule.RuleID, Path: path, Positive: true, Text: truePositives[path]})
	}
	for _, path := range sorted(falsePositives) {
		write(detector, Case{Rule: rule.RuleID, Path: path, Text: falsePositives[path]})
	}
	return &rule
}

func sorted(cases map[string]string) []string {
	paths := make([]string, 0, len(cases))
	for path := range cases {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	return paths
}

func write(detector *detect.Detector, line Case) {
	line.Values = []string{}
	for _, finding := range detector.Detect(detect.Fragment{Raw: line.Text, FilePath: line.Path}) {
		line.Values = append(line.Values, finding.Secret)
	}
	if err := out.Encode(line); err != nil {
		panic(err)
	}
}

// single is gitleaks with one rule, as its own tests have it.
func single(rule *config.Rule) *detect.Detector {
	known := map[string]struct{}{}
	for place, keyword := range rule.Keywords {
		rule.Keywords[place] = strings.ToLower(keyword)
		known[rule.Keywords[place]] = struct{}{}
	}
	whole := base.CreateGlobalConfig()
	whole.Rules = map[string]config.Rule{rule.RuleID: *rule}
	whole.Keywords = known
	for _, allowed := range whole.Allowlists {
		if err := allowed.Validate(); err != nil {
			panic(err)
		}
	}
	return detect.NewDetector(whole)
}
