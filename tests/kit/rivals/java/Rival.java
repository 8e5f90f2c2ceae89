import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.nats.client.Connection;
import io.nats.client.JetStream;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.PublishOptions;
import io.nats.client.api.PublishAck;
import jakarta.jms.BytesMessage;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Carries the events of one queue of ActiveMQ to Kafka, NATS JetStream or a file, with the clients that a program of
 * Java would use for that. JMS acknowledges all that was received, so events go in groups: what is ready.
 */
public class Rival {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static volatile boolean stopping = false;

    /** An event of the broker. */
    record Event(String id, byte[] body) {
        /** The MD5 of the address. */
        String key() throws IOException {
            JsonNode members = JSON.readTree(body);
            JsonNode md5 = members.has("md5_email") ? members.get("md5_email") : members.get("md5");
            if (md5 == null) {
                throw new IOException("no MD5 in the body of " + id);
            }
            return md5.asText();
        }
    }

    interface Sink {
        /** Takes an event of the current group. */
        void send(Event event) throws Exception;

        /** Returns when the group is stored. */
        void flush() throws Exception;
    }

    public static void main(String[] arguments) {
        CountDownLatch settled = new CountDownLatch(1);
        // The exit code of a JVM that was told to end is 0 only when a hook says so.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopping = true;
            try {
                settled.await();
                Runtime.getRuntime().halt(0);
            } catch (InterruptedException error) {
                fail(error);
            }
        }));
        try {
            carry();
            settled.countDown();
        } catch (Exception error) {
            fail(error);
        }
    }

    /** Ends the process without what it does on a usual end, which would wait for the group. */
    private static void fail(Exception error) {
        error.printStackTrace();
        Runtime.getRuntime().halt(1);
    }

    private static void carry() throws Exception {
        int prefetch = Integer.parseInt(System.getenv("RIVAL_PREFETCH"));
        Sink sink = open();
        var factory = new ActiveMQConnectionFactory("tcp://" + System.getenv("RIVAL_BROKER")
            + "?jms.prefetchPolicy.queuePrefetch=" + prefetch + "&jms.watchTopicAdvisories=false");
        var connection = factory.createConnection(System.getenv("RIVAL_USERNAME"), System.getenv("RIVAL_PASSWORD"));
        connection.setClientID(System.getenv("RIVAL_CLIENT_ID"));
        connection.setExceptionListener(Rival::fail);
        Session session = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(session.createQueue(System.getenv("RIVAL_QUEUE")));
        connection.start();
        while (!stopping) {
            Message message = consumer.receive(100);
            Message last = null;
            for (int size = 0; message != null; size++) {
                sink.send(event(message));
                last = message;
                message = size < prefetch - 1 ? consumer.receiveNoWait() : null;
            }
            if (last != null) {
                sink.flush();
                last.acknowledge();
            }
        }
        connection.close();
    }

    private static Event event(Message message) throws JMSException {
        if (message instanceof TextMessage text) {
            return new Event(message.getJMSMessageID(), text.getText().getBytes(StandardCharsets.UTF_8));
        }
        BytesMessage bytes = (BytesMessage) message;
        byte[] body = new byte[(int) bytes.getBodyLength()];
        bytes.readBytes(body);
        return new Event(message.getJMSMessageID(), body);
    }

    private static Sink open() throws Exception {
        if (System.getenv("RIVAL_KAFKA") != null) {
            return new Kafka(System.getenv("RIVAL_KAFKA"), System.getenv("RIVAL_TOPIC"));
        }
        if (System.getenv("RIVAL_NATS") != null) {
            return new Stream(System.getenv("RIVAL_NATS"), System.getenv("RIVAL_SUBJECT"));
        }
        return new Lines(Path.of(System.getenv("RIVAL_FILE")));
    }

    static class Kafka implements Sink {
        private final KafkaProducer<String, byte[]> producer;
        private final String topic;
        private final List<Future<RecordMetadata>> sent = new ArrayList<>();

        Kafka(String bootstrap, String topic) {
            // The defaults are acks=all and idempotent. A flush cuts linger.ms short.
            producer = new KafkaProducer<>(Map.of(
                "bootstrap.servers", bootstrap,
                "compression.type", "lz4",
                "batch.size", 256 * 1024), new StringSerializer(), new ByteArraySerializer());
            this.topic = topic;
        }

        @Override
        public void send(Event event) throws IOException {
            sent.add(producer.send(new ProducerRecord<>(topic, event.key(), event.body())));
        }

        @Override
        public void flush() throws Exception {
            producer.flush();
            for (var record : sent) {
                record.get();
            }
            sent.clear();
        }
    }

    static class Stream implements Sink {
        private final JetStream stream;
        private final String subject;
        private final List<CompletableFuture<PublishAck>> published = new ArrayList<>();

        Stream(String url, String subject) throws Exception {
            // After a lost connection, later events would overtake those that were lost with it.
            Connection connection = Nats.connect(Options.builder().server(url).noReconnect().build());
            stream = connection.jetStream();
            this.subject = subject;
        }

        @Override
        public void send(Event event) throws IOException {
            PublishOptions options = PublishOptions.builder().messageId(event.id()).build();
            String to = subject.endsWith(".") ? subject + event.key() : subject;
            published.add(stream.publishAsync(to, event.body(), options));
        }

        @Override
        public void flush() throws Exception {
            CompletableFuture.allOf(published.toArray(CompletableFuture[]::new)).get(10, TimeUnit.SECONDS);
            published.clear();
        }
    }

    static class Lines implements Sink {
        private final FileChannel file;
        private final ByteArrayOutputStream lines = new ByteArrayOutputStream();

        Lines(Path path) throws IOException {
            file = FileChannel.open(path,
                StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
            // A kill may have cut the last line off.
            long end = file.size();
            ByteBuffer last = ByteBuffer.allocate(1);
            while (end > 0 && file.read(last.clear(), end - 1) == 1 && last.get(0) != '\n') {
                end--;
            }
            file.truncate(end).position(end);
        }

        @Override
        public void send(Event event) {
            lines.writeBytes(event.body());
            lines.write('\n');
        }

        @Override
        public void flush() throws IOException {
            ByteBuffer bytes = ByteBuffer.wrap(lines.toByteArray());
            while (bytes.hasRemaining()) {
                file.write(bytes);
            }
            file.force(false);
            lines.reset();
        }
    }
}
