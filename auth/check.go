package auth

import (
	"encoding/json"
	"fmt"
	"strings"

	"ehi-server/shared/subject"
)

// CheckRecord returns an error if this package cannot read a record of the bucket. It accepts
// records that are not JSON and those of unknown kinds.
func CheckRecord(key string, value []byte) error {
	for kind, into := range map[subject.Kind]func() any{
		accountRecords: func() any { return &accountRecord{} },
		clientRecords:  func() any { return &clientRecord{} },
		codeRecords:    func() any { return &grant{} },
		consentRecords: func() any { return &Consent{} },
		failureRecords: func() any { return &failures{} },
		keyRecords:     func() any { return &signingKey{} },
		refreshRecords: func() any { return &grant{} },
	} {
		if !strings.HasPrefix(key, kind.String()) {
			continue
		}
		if err := json.Unmarshal(value, into()); err != nil {
			return fmt.Errorf("record %.100s: %w", key, err)
		}
	}
	return nil
}
