import au.csiro.fhir.auth.AuthConfig;
import au.csiro.fhir.export.BulkExportClient;

/** au.csiro.fhir:bulk-export, the client of Pathling: SMART backend services and one export into a folder. */
public class Bulk {
  public static void main(String[] args) {
    String server = args[0], level = args[1], key = args[2], folder = args[3];
    var builder = level.isEmpty() ? BulkExportClient.systemBuilder() : BulkExportClient.patientBuilder();
    var auth = AuthConfig.builder()
        .enabled(true)
        .useSMART(true)
        .clientId("test_client_id")
        .privateKeyJWK(key)
        .scope("system/*.read")
        .build();
    builder
        .withFhirEndpointUrl(server + "/fhir")
        .withOutputDir(folder)
        .withAuthConfig(auth)
        .build()
        .export();
  }
}
