import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.api.MethodOutcome;
import ca.uhn.fhir.rest.client.interceptor.BearerTokenAuthInterceptor;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.CapabilityStatement;
import org.hl7.fhir.r4.model.Parameters;
import org.hl7.fhir.r4.model.Patient;

/** HAPI's client: capability, read, search and the kick-off of an operation. It prints the status URL. */
public class Hapi {
  public static void main(String[] args) {
    String server = args[0], token = args[1], patient = args[2];
    var client = FhirContext.forR4().newRestfulGenericClient(server + "/fhir");
    client.registerInterceptor(new BearerTokenAuthInterceptor(token));
    check(client.capabilities().ofType(CapabilityStatement.class).execute().getRest().size() == 1);
    check(client.read().resource(Patient.class).withId(patient).execute().getIdPart().equals(patient));
    Bundle found = client.search()
        .forResource(Patient.class)
        .where(Patient.RES_ID.exactly().code(patient))
        .returnBundle(Bundle.class)
        .execute();
    check(found.getEntry().size() == 1);
    MethodOutcome begun = client.operation()
        .onType(Patient.class)
        .named("$export")
        .withNoParameters(Parameters.class)
        .returnMethodOutcome()
        .withAdditionalHeader("Prefer", "respond-async")
        .execute();
    System.out.println(begun.getResponseHeaders().get("content-location").get(0));
  }

  static void check(boolean holds) {
    if (!holds) {
      throw new IllegalStateException();
    }
  }
}
