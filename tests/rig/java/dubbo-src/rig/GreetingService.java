package rig;

public interface GreetingService {
    String greet(String name);
}
