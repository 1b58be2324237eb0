// Package secrets: what stands in the place of gitleaks's own file of this name when its rules are compiled. It makes values by chance
// that fit an expression, the same ones for the same seed.
package secrets

import (
	"os"
	"strconv"

	"github.com/lucasjones/reggen"
)

// The next value's seed. Each has its own, so that two of the same expression differ.
var seed = first()

func first() int64 {
	number, err := strconv.ParseInt(os.Getenv("GITLEAKS_SEED"), 10, 32)
	if err != nil {
		number = 1
	}
	return number << 20
}

// NewSecret is a value that fits.
func NewSecret(expression string) string {
	generator, err := reggen.NewGenerator(expression)
	if err != nil {
		panic(err)
	}
	seed++
	generator.SetSeed(seed)
	return generator.Generate(1)
}
