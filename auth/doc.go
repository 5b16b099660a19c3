// Package auth is the SMART App Launch authorization server: clients, accounts, scopes, codes,
// tokens and keys (SMART-1 to 10). It knows who a client or a person is and what a token opens;
// it knows nothing of jobs and nothing of HTTP: the api module turns requests into calls and
// answers into responses.
//
//	authorize request --Check--> Request --patient agrees--> Code --redeem--> Tokens --Verify--> Access
//	                                                                 \--refresh, rotated--/
//
// All state is in one KV bucket, so that any number of API processes are one authorization
// server:
//
//	client.<id>               a registered client; its secret as a hash
//	account.<kind>.<hash>     a patient's or an administrator's account; its password as a hash, and an
//	                          administrator's second factor; of kind config: the second factor alone
//	failures.<hash>           the wrong passwords or codes of a name since its last right one (a day)
//	key.<kid>                 a signing key; key.current is the first version's
//	rotating                  held by the process that rotates the keys (a minute)
//	code.<hash>               a code that was given out (60 s)
//	refresh.<hash>            a refresh token that was given out
//	used.<hash>               the tombstone of either: whoever creates it has redeemed it, anyone later is a replay
//	revoked.<family>          everything that came of one authorization is void
//	consent.<hash>.<family>   an application that a patient has let in, for as long as it holds tokens
//	jti.<hash>                an assertion that was used; it lives as long as the assertion
//
// The api module counts failures in the same bucket (abuse.<a or c>.<hash>). Clients,
// administrators, keys and revocations are followed: what one process changes holds in all of
// them within milliseconds.
//
// Codes and refresh tokens are random and stored as hashes only; passwords and clients' secrets
// are stored as argon2id hashes.
package auth
