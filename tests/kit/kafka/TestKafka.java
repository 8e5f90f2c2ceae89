import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import kafka.server.KafkaConfig;
import kafka.server.KafkaRaftServer;
import kafka.tools.StorageTool;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.utils.Time;

/**
 * One Kafka server for the tests, in a process that they own: it says "ready" on standard output once it
 * serves, administers itself as it is told on standard input, and ends when that ends, so that no server
 * outlives its test run.
 *
 * <p>An answer is one line: "ok", or what the question says, or "error" and why. What has been changed is
 * in force when "ok" is said.
 *
 * <pre>
 * java -cp ... TestKafka SERVER.properties
 *   create TOPIC PARTITIONS [KEY=VALUE ...]
 *   delete TOPIC
 *   describe TOPIC             "topic PARTITIONS", or "none"
 *   grow TOPIC PARTITIONS
 *   configure TOPIC KEY=VALUE
 *   allow PRINCIPAL OPERATION TOPIC
 *   deny PRINCIPAL OPERATION TOPIC
 *   forget TOPIC               drops what was allowed and denied on it
 *                              (for these three, TOPIC may also be group:NAME or transactional-id:PREFIX)
 *   user NAME MECHANISM PASSWORD
 *   stop                       stops cleanly, says "stopped" and ends with 0
 * </pre>
 */
public final class TestKafka {
    private static final String GROUP = "group:";
    private static final String TRANSACTIONAL_ID = "transactional-id:";

    private final KafkaRaftServer server;
    private final Admin admin;

    private TestKafka(KafkaRaftServer server, Admin admin) {
        this.server = server;
        this.admin = admin;
    }

    public static void main(String[] arguments) {
        // A later fault in the server ends it too: a test must not go on with half of one.
        Thread.setDefaultUncaughtExceptionHandler((thread, error) -> end(error));
        try {
            Properties settings = new Properties();
            try (Reader file = Files.newBufferedReader(Path.of(arguments[0]))) {
                settings.load(file);
            }
            format(arguments[0]);
            KafkaRaftServer server = new KafkaRaftServer(new KafkaConfig(settings), Time.SYSTEM);
            server.startup();
            Admin admin = Admin.create(client(settings));
            int own = Integer.parseInt(settings.getProperty("node.id"));
            until(() -> admin.describeCluster().nodes().get().stream().anyMatch(node -> node.id() == own));
            System.out.println("ready");
            new TestKafka(server, admin).serve();
        } catch (Throwable error) {
            end(error);
        }
    }

    private static void end(Throwable error) {
        error.printStackTrace();
        Runtime.getRuntime().halt(1);
    }

    /** Does nothing to a store that is there already. */
    private static void format(String settings) {
        String[] command = {"format", "--ignore-formatted", "--cluster-id", "atdata-bridge-tests-00", "--config", settings};
        if (StorageTool.execute(command, System.err) != 0) {
            throw new IllegalStateException("the store cannot be formatted");
        }
    }

    private static Map<String, Object> client(Properties settings) {
        Map<String, Object> client = new HashMap<>();
        String listeners = settings.getProperty("listeners");
        String address = listeners.replaceFirst(".*ADMIN://([^,]*),.*", "$1");
        client.put("bootstrap.servers", address);
        client.put("security.protocol", "SASL_PLAINTEXT");
        client.put("sasl.mechanism", "PLAIN");
        client.put("sasl.jaas.config", settings.getProperty("listener.name.admin.plain.sasl.jaas.config"));
        return client;
    }

    private void serve() throws IOException {
        BufferedReader questions =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            if (line.equals("stop")) {
                server.shutdown();
                server.awaitShutdown();
                System.out.println("stopped");
                Runtime.getRuntime().halt(0);
            }
            System.out.println(answer(line.split(" ")));
        }
        // Whoever started this server is gone: so is the need for what it keeps.
        Runtime.getRuntime().halt(2);
    }

    private String answer(String[] words) {
        try {
            switch (words[0]) {
                case "create": return create(words);
                case "delete": return delete(words[1]);
                case "describe": return describe(words[1]);
                case "grow": return grow(words[1], Integer.parseInt(words[2]));
                case "configure": return configure(words[1], words[2].split("=", 2));
                case "allow": return rule(AclPermissionType.ALLOW, words);
                case "deny": return rule(AclPermissionType.DENY, words);
                case "forget": return forget(words[1]);
                case "user": return user(words[1], words[2], words[3]);
                default: return "error unknown question " + words[0];
            }
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            return "error " + cause.toString().replace('\n', ' ');
        }
    }

    private String create(String[] words) throws Exception {
        int partitions = Integer.parseInt(words[2]);
        Map<String, String> settings = new HashMap<>();
        for (int i = 3; i < words.length; i++) {
            String[] setting = words[i].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
        NewTopic topic = new NewTopic(words[1], partitions, (short) 1).configs(settings);
        admin.createTopics(List.of(topic)).all().get();
        until(() -> led(words[1]) == partitions);
        return "ok";
    }

    private String delete(String topic) throws Exception {
        admin.deleteTopics(List.of(topic)).all().get();
        until(() -> led(topic) == -1);
        return "ok";
    }

    private String describe(String topic) throws Exception {
        int partitions = led(topic);
        return partitions == -1 ? "none" : "topic " + partitions;
    }

    private String grow(String topic, int partitions) throws Exception {
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(partitions))).all().get();
        until(() -> led(topic) == partitions);
        return "ok";
    }

    private String configure(String topic, String[] setting) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        AlterConfigOp change =
                new AlterConfigOp(new ConfigEntry(setting[0], setting[1]), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
        until(() -> admin.describeConfigs(List.of(resource)).all().get()
                .get(resource).get(setting[0]).value().equals(setting[1]));
        return "ok";
    }

    private String rule(AclPermissionType permission, String[] words) throws Exception {
        AclOperation operation = AclOperation.valueOf(words[2]);
        AccessControlEntry entry = new AccessControlEntry(words[1], "*", operation, permission);
        AclBinding rule = new AclBinding(resource(words[3]), entry);
        admin.createAcls(List.of(rule)).all().get();
        until(() -> admin.describeAcls(rule.toFilter()).values().get().size() == 1);
        return "ok";
    }

    private String forget(String name) throws Exception {
        AclBindingFilter rules = new AclBindingFilter(resource(name).toFilter(), AccessControlEntryFilter.ANY);
        admin.deleteAcls(List.of(rules)).all().get();
        until(() -> admin.describeAcls(rules).values().get().isEmpty());
        return "ok";
    }

    private static ResourcePattern resource(String name) {
        if (name.startsWith(TRANSACTIONAL_ID)) {
            String prefix = name.substring(TRANSACTIONAL_ID.length());
            return new ResourcePattern(ResourceType.TRANSACTIONAL_ID, prefix, PatternType.PREFIXED);
        }
        return name.startsWith(GROUP)
                ? new ResourcePattern(ResourceType.GROUP, name.substring(GROUP.length()), PatternType.LITERAL)
                : new ResourcePattern(ResourceType.TOPIC, name, PatternType.LITERAL);
    }

    private String user(String name, String mechanism, String password) throws Exception {
        ScramMechanism scram = ScramMechanism.fromMechanismName(mechanism);
        admin.alterUserScramCredentials(List.of(
                new UserScramCredentialUpsertion(name, new ScramCredentialInfo(scram, 4096), password)))
                .all().get();
        until(() -> admin.describeUserScramCredentials(List.of(name)).all().get()
                .get(name).credentialInfos().stream().anyMatch(info -> info.mechanism() == scram));
        return "ok";
    }

    /** How many partitions of the topic have a leader; -1 where there is no such topic. */
    private int led(String topic) throws Exception {
        try {
            TopicDescription description =
                    admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            return (int) description.partitions().stream()
                    .filter(partition -> partition.leader() != null && !partition.leader().isEmpty()).count();
        } catch (ExecutionException error) {
            if (error.getCause() instanceof UnknownTopicOrPartitionException) {
                return -1;
            }
            throw error;
        }
    }

    /** A change is committed before every part of the server knows of it. */
    private static void until(Callable<Boolean> condition) throws Exception {
        while (!condition.call()) {
            Thread.sleep(10);
        }
    }
}
